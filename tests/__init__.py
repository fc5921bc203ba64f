"""The laws of the package. While they run, the shapes in its annotations are checked."""

from tests import shapes

shapes.install("invertkit")
