"""`python -m voxloop` is `voxloop`."""

import sys

from voxloop.cli.main import main

sys.exit(main())
