{{/* Name of the chart's objects: the release's, with the chart's behind it unless it says so already. */}}
{{- define "modelops.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that a selector may use: they never change. */}}
{{- define "modelops.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of every object.  The operator's own children say managed-by: modelops, never Helm. */}}
{{- define "modelops.labels" -}}
{{ include "modelops.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "modelops.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "modelops.operatorAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "modelops.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "modelops.agent" -}}
{{ include "modelops.fullname" . }}-delivery
{{- end -}}

{{- define "modelops.nodes" -}}
{{ include "modelops.fullname" . }}-nodes
{{- end -}}

{{/* The RuntimeClass that brings NVML into a pod: the one named, else nvidia where the cluster has it.  A
renderer that asks no cluster, as GitOps tools do, finds none: name it there. */}}
{{- define "modelops.nodesRuntimeClass" -}}
{{- if .Values.nodes.runtimeClassName -}}
{{ .Values.nodes.runtimeClassName }}
{{- else if lookup "node.k8s.io/v1" "RuntimeClass" "" "nvidia" -}}
nvidia
{{- end -}}
{{- end -}}

{{- define "modelops.cleanup" -}}
{{ include "modelops.fullname" . }}-cleanup
{{- end -}}

{{- define "modelops.gateSecret" -}}
{{- .Values.gate.existingSecret | default (printf "%s-gate" (include "modelops.fullname" .)) -}}
{{- end -}}

{{/* "true" where the API server writes the approver and the creator itself, else nothing. */}}
{{- define "modelops.stamping" -}}
{{- if and .Values.gate.stamping (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy") -}}
true
{{- end -}}
{{- end -}}

{{/* What a pod of ours that is not root runs under; admitted by the level restricted. */}}
{{- define "modelops.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "modelops.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The settings file: the values, one to one. */}}
{{- define "modelops.settings" -}}
{{- $url := required "prometheus.url: needs the address of Prometheus, found none; add --set prometheus.url=http://prometheus.monitoring.svc:9090" .Values.prometheus.url -}}
{{- with .Values.watchNamespaces }}
watchNamespaces: {{ toJson . }}
{{- end }}
lease:
  name: {{ include "modelops.fullname" . }}
  duration: {{ .Values.leaderElection.leaseDuration }}
  renew: {{ .Values.leaderElection.renewDeadline }}
  retry: {{ .Values.leaderElection.retryPeriod }}
prometheus:
  url: {{ $url | quote }}
  timeout: {{ .Values.prometheus.timeout }}
{{- $gateway := dict }}
{{- range $key, $value := .Values.gateway }}{{ if $value }}{{ $_ := set $gateway $key $value }}{{ end }}{{ end }}
{{- with $gateway }}
gateway: {{ toJson . }}
{{- end }}
{{- with .Values.metrics.podMonitor }}
{{- if .enabled }}
podMonitor: {{ dict "interval" .interval "labels" .labels | toJson }}
{{- end }}
{{- end }}
images:
  operator: {{ include "modelops.image" . | quote }}
  {{- with .Values.engineImages }}
  engineImages: {{ toJson . }}
  {{- end }}
  {{- with .Values.engineCommands }}
  engineCommands: {{ toJson . }}
  {{- end }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: [{{ range $i, $one := . }}{{ if $i }}, {{ end }}{{ $one.name | quote }}{{ end }}]
{{- end }}
{{- with .Values.sources.allowedHosts }}
sources: {{ dict "allowedHosts" . | toJson }}
{{- end }}
{{- with .Values.environments }}
environments: {{ toJson . }}
{{- end }}
delivery:
  enabled: {{ .Values.delivery.enabled }}
  store: {{ .Values.delivery.store | quote }}
gate:
  stamping: {{ include "modelops.stamping" . | default "false" }}
  hmacKeyFile: /var/run/modelops/gate/keys
metricsPort: 8080
probesPort: 8081
{{- end -}}
