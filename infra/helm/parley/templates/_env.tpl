{{/* Environment variables: each is a setting of the service that gets it. */}}

{{- define "parley.env.parley" -}}
- name: PARLEY_ENVIRONMENT
  value: {{ .Values.environment }}
- name: PARLEY_LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: PARLEY_INTERNAL_TOKEN
  valueFrom:
    secretKeyRef: { name: {{ include "parley.secret" . }}, key: internal-token }
{{- end }}

{{- define "parley.env.telemetry" -}}
{{- with .Values.telemetry.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "parley.env.kafka" -}}
- name: KAFKA_BOOTSTRAP_SERVERS
  value: {{ .Values.kafka.bootstrapServers | quote }}
- name: KAFKA_SECURITY_PROTOCOL
  value: {{ .Values.kafka.securityProtocol }}
{{- if .Values.kafka.saslUsername }}
- name: KAFKA_SASL_MECHANISM
  value: {{ .Values.kafka.saslMechanism }}
- name: KAFKA_SASL_USERNAME
  value: {{ .Values.kafka.saslUsername | quote }}
- name: KAFKA_SASL_PASSWORD
  valueFrom:
    secretKeyRef: { name: {{ include "parley.secret" . }}, key: kafka-sasl-password }
{{- end }}
{{- if .Values.kafka.caSecret }}
- name: KAFKA_SSL_CA_FILE
  value: /etc/parley/kafka/ca.crt
{{- end }}
{{- end }}

{{- define "parley.env.tools" -}}
- name: TOOLS_DATABASE_URL
  valueFrom:
    secretKeyRef: { name: {{ include "parley.secret" . }}, key: tools-database-url }
{{- end }}

{{- define "parley.env.notify" -}}
- name: NOTIFY_DATABASE_URL
  valueFrom:
    secretKeyRef: { name: {{ include "parley.secret" . }}, key: notify-database-url }
- name: NOTIFY_WEBHOOK_KEYS
  valueFrom:
    secretKeyRef: { name: {{ include "parley.secret" . }}, key: notify-webhook-keys }
{{- end }}

{{/* Where the session replicas are: all there may ever be, by their stable names. */}}
{{- define "parley.sessionServices" -}}
{{- $count := .Values.session.replicas }}
{{- if .Values.session.autoscaling.enabled }}{{ $count = .Values.session.autoscaling.maxReplicas }}{{ end }}
{{- $name := printf "%s-session" (include "parley.fullname" .) }}
{{- $urls := list }}
{{- range $ordinal := until (int $count) }}
{{- $urls = append $urls (printf "ws://%s-%d.%s:8081" $name $ordinal $name) }}
{{- end }}
{{- join "," $urls }}
{{- end }}

{{- define "parley.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.kafka.caSecret }}
- name: kafka-ca
  mountPath: /etc/parley/kafka
  readOnly: true
{{- end }}
{{- if .Values.businesses.existingClaim }}
- name: businesses
  mountPath: /opt/parley/businesses
  readOnly: true
{{- end }}
{{- end }}

{{- define "parley.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 64Mi }
{{- if .Values.kafka.caSecret }}
- name: kafka-ca
  secret: { secretName: {{ .Values.kafka.caSecret }} }
{{- end }}
{{- if .Values.businesses.existingClaim }}
- name: businesses
  persistentVolumeClaim: { claimName: {{ .Values.businesses.existingClaim }}, readOnly: true }
{{- end }}
{{- end }}
