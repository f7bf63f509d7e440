"""`accelerate launch`, without the traceback it adds to what a training that failed has said itself."""

import logging
import sys

from accelerate.commands.launch import main
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
try:
    main()
except ChildFailedError as error:
    code = error.get_first_failure()[1].exitcode
    sys.exit(128 - code if code < 0 else code)  # as a shell says that a signal ended it
