"""An exporter of spans, as an operator may write one."""

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


def to_the_console() -> list[SpanProcessor]:
    return [SimpleSpanProcessor(ConsoleSpanExporter())]
