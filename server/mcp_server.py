"""The tools, spoken through the SDK of the Model Context Protocol.

The SDK's low-level server is used, since its comfortable one takes over the process's
logging, accepts unknown arguments, and repeats what it was given in its errors. Importing
the SDK takes most of a second; ``mcp`` does it beside the start of a server.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio.to_thread
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from .. import __version__
from .problems import problem_of
from .tools import INSTRUCTIONS, SESSION, TOOLS, Session, compact, error_text

logger = logging.getLogger("holdfast.server")

Context = ServerRequestContext[Any, Any]


def over_http(most_bytes: int) -> StreamableHTTPSessionManager:
    """Give what answers requests over HTTP, each of which stands alone and brings its session."""

    def session_of(context: Context) -> Session:
        assert context.request is not None
        return context.request.scope[SESSION]

    return StreamableHTTPSessionManager(
        build(session_of), json_response=True, stateless=True, max_request_body_size=most_bytes
    )


def build(session_of: Callable[[Context], Session]) -> Server:
    """Make a server of the protocol.

    Args:
        session_of: gives on whose behalf a request is made.
    """

    async def list_tools(context: Context, _: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=tools(session_of(context)))

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        return await anyio.to_thread.run_sync(
            call, partial(session_of, context), params.name, params.arguments or {}
        )

    return Server(
        "holdfast", title="Holdfast", version=__version__, instructions=INSTRUCTIONS,
        on_list_tools=list_tools, on_call_tool=call_tool,
    )  # fmt: skip


def tools(session: Session) -> list[Tool]:
    """List the tools that a session may use."""
    return [
        Tool(
            name=tool.name,
            description=tool.when,
            input_schema=tool.schema(session),
            output_schema=compact(tool.gives),
            annotations=ToolAnnotations(
                read_only_hint=tool.reads_only,
                destructive_hint=None if tool.reads_only else False,
            ),
        )
        for tool in TOOLS
        if session.caller.may(tool.permission)
    ]


def call(session_of: Callable[[], Session], name: str, arguments: dict[str, Any]) -> CallToolResult:
    """Call a tool; what goes wrong is told to the model, which can mend it."""
    found = next((tool for tool in TOOLS if tool.name == name), None)
    if found is None:
        return _failed(f"there is no such tool; there are: {', '.join(t.name for t in TOOLS)}")
    try:
        given = found.call(session_of(), arguments)
    except Exception as error:
        _note(found.name, error)
        return _failed(error_text(error))
    text = given.model_dump_json()
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=given.model_dump(mode="json"),
    )


def _note(name: str, error: Exception) -> None:
    if problem_of(error, "").status >= 500:  # without its words, which may be a subject's
        logger.error("the tool %s failed: %s", name, type(error).__name__)


def _failed(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


async def serve_stdio(session_of: Callable[[], Session]) -> None:
    """Speak the protocol on standard input and output until the client leaves."""
    server = build(lambda _: session_of())
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())
