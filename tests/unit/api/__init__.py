"""The REST client, against sockets on loopback that behave as RunPod, a CDN or a bad network does."""
