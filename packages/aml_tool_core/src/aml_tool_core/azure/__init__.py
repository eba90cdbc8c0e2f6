"""What the tools that talk to Azure share; needs the extra `[azure]`.

Nothing here knows whether Azure is real: every address comes from the cloud metadata (`cloud`). The SDKs' slow imports
stand inside functions, so that `--help` and input errors stay quick.
"""
