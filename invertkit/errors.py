"""Every error invertkit raises on purpose.

InvertkitError
├── InputError     a picture, a mask, a folder or a device the user named cannot be used
│   ├── ShapeError a tensor has the wrong rank, size or dtype
│   └── WriteError a file or folder cannot be written
├── RecipeError    the recipe is wrong; the message starts with the path to the fault
├── TapError       an objective asked for a layer the model does not have
└── WeightsError   a weights file is damaged, belongs to another network, or would run code

InvertkitWarning   something is likely not what the user wants, and is done all the same

Each message says what was expected, what came, and what to do. The command line prints the
message alone and exits with code 2; nothing is lost.
"""


class InvertkitError(Exception):
    """The root: `except InvertkitError` catches everything the toolkit raises on purpose."""


class InputError(InvertkitError, ValueError):
    """A picture, a mask, a folder or a device the user named cannot be used."""


class ShapeError(InputError):
    """A tensor has the wrong rank, size or dtype."""


class WriteError(InputError):
    """A file or folder cannot be written."""


class RecipeError(InvertkitError, ValueError):
    """The recipe is wrong; the message starts with the dotted path to the fault."""


class TapError(InvertkitError, LookupError):
    """An objective asked for a layer the model does not have."""


class WeightsError(InvertkitError, ValueError):
    """A weights file is damaged, belongs to another network, or would run code."""


class InvertkitWarning(UserWarning):
    """Something is likely not what the user wants, and is done all the same."""
