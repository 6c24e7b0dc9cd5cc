# The same two commands inside NVIDIA's TensorRT image, for a machine with a datacenter Blackwell GPU:
#
#   docker build -t nvfp4-trt .
#   docker run --rm --gpus all nvfp4-trt make test
#   docker run --rm --gpus all nvfp4-trt make demo
#
# This file has not been built or run by this project: the tag is written from NVIDIA's naming of its
# releases (year.month), so check it in the catalog first. Any image with TensorRT 10.8 or later will do.
# The image's TensorRT is visible to the system's Python; the virtual environment that `make` creates
# does not see it and brings TensorRT-RTX. To build with full TensorRT, install its wheel there:
# .venv/bin/pip install tensorrt
FROM nvcr.io/nvidia/tensorrt:25.10-py3

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /nvfp4-trt
COPY . .
# .venv is made here, so that the two commands start at once.
RUN make install

CMD ["make", "test"]
