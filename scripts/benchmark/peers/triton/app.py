"""The model on Triton's Python backend, with the tritonserver of the nvidia-pytriton wheel. BATCH: above 1, it batches."""

import os
import sys
import sysconfig
from pathlib import Path

CONFIG = """
name: "predict"
backend: "python"
max_batch_size: 1024
input [{ name: "rows", data_type: TYPE_FP64, dims: [3] }]
output [{ name: "predictions", data_type: TYPE_FP64, dims: [1] }]
instance_group [{ count: 1, kind: KIND_CPU }]
"""

BATCHING = "dynamic_batching { max_queue_delay_microseconds: 0 }\n"


def main():
    """Creates a model repository and a backend for this Python in the current folder, and executes the server."""
    packages = Path(sysconfig.get_path("purelib"))
    triton = packages / "pytriton/tritonserver"
    model = Path("models/predict")
    (model / "1").mkdir(parents=True)
    (model / "1/model.py").symlink_to(Path(__file__).parent / "model.py")
    (model / "1/linear").symlink_to(Path(os.environ["PYTHONPATH"]) / "linear")  # the process of the backend has another import path
    (model / "config.pbtxt").write_text(CONFIG + (BATCHING if int(os.environ["BATCH"]) > 1 else ""))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    backend = Path("backends/python")
    backend.mkdir(parents=True)
    for path in (*triton.glob("backends/python/*"), triton / "python_backend_stubs" / version / "triton_python_backend_stub"):
        (backend / path.name).symlink_to(path)
    options = {
        "model-repository": "models",
        "backend-directory": "backends",
        "http-address": "127.0.0.1",
        "http-port": os.environ["PORT"],
        "allow-grpc": "false",
        "allow-metrics": "false",
        "log-info": "false",
    }
    environment = os.environ | {"LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"), "PYTHONHOME": sys.base_prefix}
    environment["PYTHONPATH"] += f":{packages}"
    server = triton / "bin/tritonserver"
    os.execve(server, ["tritonserver", *(f"--{name}={value}" for name, value in options.items())], environment)


if __name__ == "__main__":
    main()
