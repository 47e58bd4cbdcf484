# The app in a container:
#   docker build -t gcwm-viz . && docker run -p 127.0.0.1:8501:8501 -v "$PWD/runs:/data/runs" gcwm-viz
# docs/install.md says how to serve it to others, and on a Hugging Face Space.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

# Index of torch's builds; without one the default build, which has CUDA on x86-64.
ARG TORCH_INDEX=
WORKDIR /src
COPY requirements.txt ./
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements.txt)" \
 && pip install --no-cache-dir -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY gcwm_viz gcwm_viz
RUN pip install --no-cache-dir --no-deps . && rm -rf /src

RUN useradd --create-home --uid 1000 gcwm && mkdir -p /data/runs && chown -R gcwm /data
USER gcwm
WORKDIR /data
# The container's own network; what reaches it, the published port decides.
ENV STREAMLIT_SERVER_ADDRESS=0.0.0.0
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8501/_stcore/health', timeout=3)"]
ENTRYPOINT ["gcwm-viz"]
CMD ["app", "--run-root", "/data/runs", "--port", "8501"]
