import sys

from oomwatchd.main import main

sys.exit(main())
