"""The toolkit's logger."""

from __future__ import annotations

import logging

log = logging.getLogger("invertkit")
log.addHandler(logging.NullHandler())
