"""Deploy a model with its optimized parameters as an AzureML online endpoint."""
