"""What really runs: blobs, environments, scoring servers, the gateway."""
