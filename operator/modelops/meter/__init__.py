"""Pass requests through to the engine of the same pod, and measure them where the engine does not.

The meter is a sidecar.  It listens on the pod's port, hands every request to the engine on the
loopback address and sends the answer back byte for byte as it is generated; on a second port it
exposes what it saw, whether the pod is ready, and when the last answer is over.

* ``answers``: what one answer says about itself while it passes (pure, time is an argument)
* ``drain``: when nothing is open any more (pure, time is an argument)
* ``metrics``: the series that Prometheus reads
* ``proxy``: the pass-through
* ``main``: the program ``modelops meter``, the metrics port and the end of the process

**The pod.**  Engines cut or drop their streams on SIGTERM, so the engine must get its SIGTERM after
the last answer, and the meter must outlive the engine:

* The meter is a native sidecar: an init container with ``restartPolicy: Always`` (Kubernetes 1.29 or
  newer), ports 8000 and 9400, ``startupProbe`` on ``/healthz`` and ``readinessProbe`` on ``/readyz``,
  both on port 9400.  It needs no preStop hook.
* The engine is the main container, listens on 127.0.0.1 only, has no readiness probe, and carries
  ``lifecycle.preStop.httpGet: {path: /wait-drained, port: 9400}`` with the port as a number: a named
  port is looked up in the engine container alone.
* ``terminationGracePeriodSeconds`` is the drain timeout and 25 seconds more.
* Startup and liveness probe of the engine state their own short ``terminationGracePeriodSeconds``: the
  hook also runs before a restart, and the streams of a hung engine never end.  The engine listens on
  loopback, so the probes go to the meter's port 8000, which passes ``/health`` through.

When such a pod is deleted, kubelet calls the engine's hook and holds the meter's SIGTERM back until
the main containers are gone.  ``/wait-drained`` answers when the grace for late endpoints is over,
no answer is open and nothing arrived for a moment; then the engine gets SIGTERM while idle, exits, and
the meter after it.  Kubelet waits for the hook without a timeout of its own, up to the pod's whole
grace period, asks once, ignores the status of the answer, and sends SIGTERM early when the connection
fails.

Source of the kubelet behaviour: Kubernetes 1.36.3, pkg/kubelet/lifecycle/handlers.go and
pkg/kubelet/kuberuntime/kuberuntime_container.go (executePreStopHook, killContainer).
"""
