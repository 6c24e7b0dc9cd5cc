"""`python -m nvfp4_trt.printing.schemas docs/schemas`: write the schemas anew."""

import sys
from pathlib import Path

from nvfp4_trt.printing.schemas.generate import write_schemas

write_schemas(Path(sys.argv[1]))
