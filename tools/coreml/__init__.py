# SPDX-License-Identifier: MIT
import logging
import os

os.environ.setdefault("TQDM_DISABLE", "1")  # a bar for each of its passes
logging.getLogger("coremltools").setLevel(logging.ERROR)  # off macOS it says, eight times, that it cannot run models
