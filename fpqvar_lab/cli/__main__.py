"""`python -m fpqvar_lab.cli` is the command `fpqvar-lab`."""

import sys

from fpqvar_lab.cli.app import main

sys.exit(main())
