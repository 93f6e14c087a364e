"""Every name that spans, metrics and metadata bear; the only module that holds them.

The GenAI and RPC names are OpenTelemetry's semantic conventions; those of ours begin with `quartet.`.
"""

from typing import Final

# Metadata between the services, and headers to clients.
TENANT: Final = "x-quartet-tenant"
KEY_ID: Final = "x-quartet-key-id"
MODELS: Final = "x-quartet-models"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
TRACE_ID_HEADER: Final = "x-quartet-trace-id"
ADAPTED_HEADER: Final = "x-quartet-adapted"
TIMEOUT_HEADER: Final = "x-quartet-timeout-ms"
STATUS_DETAILS: Final = "grpc-status-details-bin"
RETRY_AFTER: Final = "retry-after"

# RPC spans and metrics.
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"
RPC_SERVER_DURATION: Final = "rpc.server.call.duration"
RPC_CLIENT_DURATION: Final = "rpc.client.call.duration"
SERVER_ADDRESS: Final = "server.address"
ERROR_TYPE: Final = "error.type"

# GenAI spans: attributes.
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_DATA_SOURCE: Final = "gen_ai.data_source.id"

# GenAI operations, the first word of a span's name: `chat MODEL`, `retrieval SOURCE`, `plan AGENT`.
CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"
RETRIEVAL: Final = "retrieval"
PLAN: Final = "plan"
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"

# GenAI metrics.
GEN_AI_DURATION: Final = "gen_ai.client.operation.duration"
GEN_AI_TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - a count of tokens, not a secret
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - as above

# Ours.
TENANT_ID: Final = "quartet.tenant"
ROUTE: Final = "quartet.route"
RULE: Final = "quartet.rule"
INTENT: Final = "quartet.intent"
HANDLER: Final = "quartet.handler"
CACHE: Final = "quartet.cache"
REPLAYED: Final = "quartet.replayed"
COST_MICRO_USD: Final = "quartet.cost_micro_usd"
DEPLOYMENT_STATE: Final = "quartet.deployment.state"
DEPLOYMENT_CHANGES: Final = "quartet.deployment.state_changes"
LEDGER_DROPPED: Final = "quartet.ledger.dropped"
PIPELINE: Final = "quartet.pipeline"
STAGE: Final = "quartet.stage"
COLLECTION: Final = "quartet.collection"
RUN_ID: Final = "quartet.run.id"
ITERATION: Final = "quartet.run.iteration"
PRIORITY: Final = "quartet.priority"
TASKS: Final = "quartet.process.tasks"
CAPACITY_LIMIT: Final = "quartet.capacity.limit"
CAPACITY_CALLS: Final = "quartet.capacity.calls"
CAPACITY_SHED: Final = "quartet.capacity.shed"
