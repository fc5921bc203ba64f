"""Which class's cross-entropy is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from invertkit.apps.gradients.photographs import PhotographSource
from invertkit.apps.gradients.table import PREDICTED
from invertkit.core.log import log
from invertkit.core.suggestions import listed
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import chosen_class, class_hint, class_place
from invertkit.models.classifiers.classifier import Classifier

FOLDERS: Final = "folders"
"""The label that stands for the class that each photograph's folder is called by."""


def label_for_all(
    label: str | int | None, source: PhotographSource, classifiers: Mapping[str, Classifier]
) -> str | int:
    """What was asked for, or which of `PREDICTED` and `FOLDERS` is taken.

    Args:
        label: A name, a number, `predicted`, or None.
        source: Of the photographs.
        classifiers: By label.
    """
    if label is not None:
        return label
    folders = set(source.folders) - {""}
    if not folders:
        return PREDICTED
    for name, classifier in classifiers.items():
        classes = classifier.classes
        unknown = sorted(each for each in folders if class_place(each, classes) is None)
        if unknown:
            log.info(
                f"{name} has no class called {unknown[0]!r}, as a folder is: each classifier's own "
                "most likely class is taken."
            )
            return PREDICTED
    return FOLDERS


def class_of(classifier: Classifier, label: str | int, folder: str, name: str) -> int | None:
    """Index of the class that a photograph's loss is taken at; None for the most likely one.

    Args:
        classifier: Whose classes they are.
        label: As `label_for_all` gives it.
        folder: That the photograph lies in.
        name: What to call the classifier in a complaint.

    Raises:
        InputError: The classifier has no such class.
    """
    if label == PREDICTED:
        return None
    wanted, classes = folder if label == FOLDERS else label, classifier.classes
    # A folder is called by a name, also where that is a number.
    place = class_place(folder, classes) if label == FOLDERS else chosen_class(label, classes).place
    if place is not None:
        return place
    if not classifier.classes:
        raise InputError(
            f"class {wanted!r}: {name} does not name its classes; give a number, or `predicted`."
        )
    hint = class_hint(str(wanted), classifier.classes, cutoff=0.5)
    some = listed(classifier.classes, most=10)
    raise InputError(f"class {wanted!r}: {name} has no such class.{hint} It has: {some}.")
