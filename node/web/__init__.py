"""The HTTP shell: Starlette on the trio worker of hypercorn, behind our own accept loop."""
