"""Delete an AzureML online endpoint, or one deployment of it, and verify that it is gone."""
