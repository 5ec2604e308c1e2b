"""All names that this package emits: those of the semantic conventions, and Nuvom's own.

The messaging conventions are still in development. This module follows the version below. A test
has a copy of the output, so that no change happens by accident.
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

SYSTEM = "messaging.system"
DESTINATION = "messaging.destination.name"
MESSAGE_ID = "messaging.message.id"
BODY_SIZE = "messaging.message.body.size"
BATCH_COUNT = "messaging.batch.message_count"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
ERROR_TYPE = "error.type"

TASK = "nuvom.task.name"
SCHEDULED_AT = "nuvom.job.scheduled_at"
ATTEMPT = "nuvom.job.attempt"
MAX_ATTEMPTS = "nuvom.job.max_attempts"
LEASE_EPOCH = "nuvom.job.lease_epoch"
OUTCOME = "nuvom.job.outcome"
WORKER = "nuvom.worker.id"
LANE = "nuvom.lane"
REAPED = "nuvom.reaped.count"
SCHEDULE_ID = "nuvom.schedule.id"
SCHEDULE_LAG = "nuvom.schedule.lag"
SLOT_STATE = "nuvom.slot.state"

SENT = "messaging.client.sent.messages"
CONSUMED = "messaging.client.consumed.messages"
OPERATION_DURATION = "messaging.client.operation.duration"
PROCESS_DURATION = "messaging.process.duration"
DEPTH = "nuvom.queue.depth"
OLDEST_AGE = "nuvom.queue.oldest_age"
SLOTS = "nuvom.worker.slots"
BAGGAGE_DROPPED = "nuvom.baggage.dropped"
