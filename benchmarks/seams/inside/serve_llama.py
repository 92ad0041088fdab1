"""llama.cpp's HTTP server for one GGUF file, until it is told to end. Runs in `.seams/llama`.

python serve_llama.py MODEL.gguf NAME PORT [TEMPLATE]

TEMPLATE is a chat template for a model whose file has none.
"""

import signal
import sys
from pathlib import Path

import xllamacpp

path, name, port, *template = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = path
params.model_alias = {name}
params.hostnames = ["127.0.0.1"]
params.port = int(port)
params.n_ctx = 4096
params.n_parallel = 1
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
params.warmup = False
if template:
    params.use_jinja = True
    params.chat_template = Path(template[0]).read_text(encoding="utf-8")
server = xllamacpp.Server(params)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
