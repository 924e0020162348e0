"""A stand-in for vLLM, SGLang, llama-server and Triton, for tests only: no model, but their flags and words.

``python -m e2e.engine --as vllm|sglang|llamacpp|triton ARGS`` is started exactly like the engine, in place of
the image's command.  ARGS may begin with the engine's own program name.  Latency, errors and sizes are
knobs: set at the start by the environment variable ``STAND_IN_KNOBS`` (a JSON object), changed at any
time by a POST of such an object to ``/stand-in/knobs``.  The header ``X-Stand-In-Error: 429`` forces
that status on one request.

* ``flags``: what each engine accepts on its command line
* ``knobs``: what a test may turn
* ``work``: slots and the making of tokens
* ``vllm``, ``sglang``, ``llamacpp``, ``triton``: one dialect each, metrics and words
* ``server``: endpoints, start-up and SIGTERM
* ``real``: where the tests find real engines

Source of every behaviour: research/engines.md sections 2 and 3.
"""
