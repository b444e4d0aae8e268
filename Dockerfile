# nps with CUDA. The toolkit stays in the image: gsplat compiles its kernels on first use.
#   docker build -t nps .
#   docker run --rm --gpus all -v "$PWD:/work" nps reconstruct a.jpg b.jpg -o scene.ply
FROM nvidia/cuda:12.6.3-devel-ubuntu24.04
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv python3-dev g++ libgl1 libglib2.0-0t64 \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/nps
ENV PATH=/opt/nps/bin:$PATH NUMBA_CACHE_DIR=/tmp/numba TORCH_EXTENSIONS_DIR=/tmp/torch_extensions
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cu126
COPY . /src
RUN pip install --no-cache-dir ninja /src && rm -rf /src && nps --version
WORKDIR /work
ENTRYPOINT ["nps"]
