import sys

from oomwatchd.daemon.main import main

sys.exit(main())
