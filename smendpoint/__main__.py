"""``python -m smendpoint`` is the command ``smendpoint``."""

import sys

from smendpoint.cli import main

sys.exit(main())
