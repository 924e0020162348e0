"""Keep the JSON of own objects small: deflated, with the words that they all share given beforehand."""

import zlib

_LEVEL = 1
"""The fastest; level 6 saves a fifteenth more and takes twice as long."""
_WORDS = (
    b'"adapters":[],"affinity":"annotations":{"kubernetes.io/"argocd.argoproj.io/tracking-id":"approver":{'
    b'"username":"system:serviceaccount:"attentionHeads":"architecture":"arguments":"artifactDigest":"sha2'
    b'56:"authSecretRef":"business":{"useCase":"owner":{"team":"contact":"riskTier":"governance":{"approva'
    b'ls":{"required":"separationOfDuties":true,"environments":["prod"],"validity":"createdBy":"modelRef":'
    b'"versionRef":"decision":"Approve","specHash":"sha256:"expiresAt":"countersign":{"keyId":"mac":"trust'
    b'":"Trusted","source":{"huggingFace":{"endpoint":"https://","repo":"revision":"lifecycle":"Active","l'
    b'ineage":{"resolved":{"uri":"hf://","parameters":"quantization":"layers":"hiddenSize":"kvHeads":"head'
    b'Dim":"vocabulary":"weightsBytes":"mainFile":"format":"license":"apache-2.0","gated":false,"remoteCod'
    b'e":false,"pickle":false,"provenance":{"files":"bytes":"fetchedBytes":"totalBytes":"cache":{"nodes":['
    b'{"node":"phase":"Ready","usedBy":[{"kind":"InferenceService","namespace":"type":"Resolved","Integrit'
    b'yVerified","Approved","analysis":{"verdict":"Promote","reason":"CertificateComplete","evidence":{"re'
    b'gression":"robust":"holdAt":"stepBackAt":"rollbackAt":100.0},"certificate":{"value":"promoteAt":20.0'
    b'},"countedSeconds":"metrics":[{"name":"errors","canary":"stable":"n":{"canary":"stable":"weight":"bo'
    b'undary":"ttft","tpot","e2e","GoodEnough","Undecided"},"carry":{"eras":[{"pauses":[{"frozen":{"judged'
    b'To":"rejected":[{"hash":"version":"previous":{"candidate":{"hash":"version":"lastFailure":{"reason":'
    b'"exitCode":"logTail":"lastTransitionTime":""tolerations":[{"key":"operator":"Exists","effect":"NoSch'
    b'edule"}],"nodeSelector":{"kubernetes.io/{"apiVersion":"modelops.dev/v1alpha1","kind":"InferenceServi'
    b'ce","metadata":{"creationTimestamp":"2026-"generation":1,"labels":{"app.kubernetes.io/name":"name":"'
    b'namespace":"resourceVersion":"uid":"},"spec":{"model":{"version":"alias":"engine":{"name":"LlamaCpp"'
    b',"vLLM","contextTokens":2048,"maxConcurrency":8,"env":[{"name":"value":"extraArgs":["accelerator":{"'
    b'count":1},"products":["scaling":{"minReplicas":2,"maxReplicas":2},"traffic":{"hostnames":["path":"ro'
    b'lloutPolicyRef":{"name":"podTemplate":{"resources":{"requests":{"cpu":"memory":"limits":{"nvidia.com'
    b'/gpu":"rollout":{"action":"runId":"status":{"stable":{"hash":"version":"artifactDigest":"sha256:"obs'
    b'ervedGeneration":1,"rollout":{"phase":"Stable","runId":"attempt":0,"step":{"index":0,"of":4,"weight"'
    b':"traffic":{"desired":0,"observed":0,"routeAccepted":true},"phaseAt":"2026-"startedAt":"2026-"readyA'
    b't":"2026-"promotedAt":"2026-"promoted":["reason":"Serving","Promoted","message":" serves","windowSec'
    b'onds":60},"conditions":[{"type":"Ready","status":"True","reason":"Serving","message":""lastTransitio'
    b'nTime":"2026-","observedGeneration":1},{"type":"Reconciling","status":"False","reason":"Stable","mes'
    b'sage":"{"type":"Stalled","status":"False","reason":"Progressing","message":": nothing is stuck",{"ty'
    b'pe":"ModelAdmitted","status":"True","reason":"Admitted","message":" may run in prod",{"type":"Placed'
    b'","status":"True","reason":"Fits","message":" GiB usable on node-, fits: weights  MiB, cache  MiB, o'
    b'verhead  MiB to  GiB each; {"type":"RouteAccepted","status":"True","reason":"Accepted","message":": '
    b'Gateway  accepted the route",{"type":"RolloutHealthy","status":"True","pods":"1/1","replicas":1,"rea'
    b'dyReplicas":1,"model":""engine":"accelerator":"1 x NVIDIA-","url":"http://","placement":{"plan":{"no'
    b'de":"product":"NVIDIA-","gpus":1,"gpuMemoryBytes":"contextTokens":"maxConcurrency":"verdict":"fits",'
    b'"message":"computeCapability":"8.9","driverMajor":580,"footprint":{"weightsBytesPerGpu":"kvBytesPerT'
    b'oken":"kvBytesOneRequest":"kvBytesRequired":"overheadLowBytes":"overheadHighBytes":"memoryPercent":1'
    b'00},"rejected":[{"node":"product":"reason":"LooserFit","message":"revisions":[{"hash":"version":"dig'
    b'est":"sha256:"engine":"launch":{"image":"ghcr.io/ggml-org/llama.cpp:server-cuda13-","command":["/app'
    b'/llama-server"],"args":["-m","/model/files/","--host","127.0.0.1","--port","8080","--metrics","--no-'
    b'ui","--offline","-np","8","-c","-ngl","all","--fit","off","--sse-ping-interval","5"],"env":{},"port"'
    b':8080,"healthPath":"/health","readyPath":"/health","startupSeconds":"shmBytes":0,"drain":120.0,"mete'
    b'red":true,"engineMetricsPath":"/metrics","writable":[],"startupPeriodSeconds":1,"readyPeriodSeconds"'
    b':2,"tells":true},"placement":{"node":"resourceName":"nvidia.com/gpu","images":{"operator":"pullPolic'
    b'y":"IfNotPresent","pullSecrets":[]},"store":"/var/lib/modelops/store","drainSeconds":120.0}]}}}'
)
"""Words of our kinds, the most frequent last, where they cost the fewest bits.

Nothing is stored beyond the life of a process, so this may change at will.
"""


def pack(text: bytes) -> bytes:
    """Return *text* deflated."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=_WORDS)
    return deflate.compress(text) + deflate.flush()


def unpack(packed: bytes) -> bytes:
    """Return what `pack` was given."""
    return zlib.decompressobj(-zlib.MAX_WBITS, zdict=_WORDS).decompress(packed)
