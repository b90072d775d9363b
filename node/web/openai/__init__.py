"""The `/v1` pages: the OpenAI API over this node's methods."""

from prsm.node.web.openai.routes import World, openai_pages

__all__ = ["World", "openai_pages"]
