"""The runtime of engine Predictive: one model, served by MLServer's library.

``modelops-predictive --name NAME --format FORMAT --file FILE`` speaks the Open Inference Protocol over HTTP
and gRPC.  It is started by the arguments that ``operator/modelops/engines/predictive.py`` renders.

* ``__main__``: arguments, and exit codes
* ``predictors``: one file for each kind of model; the registry is the tuple in its ``__init__``
* ``tensors``: from the protocol's tensors to arrays and back
* ``rows``: from arrays by name to rows of features
* ``served``: a predictor as MLServer sees it
* ``server``: ports, and an end that cuts no answer
"""
