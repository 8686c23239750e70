"""What the tasks decide, with a scripted RunPod, an injected clock and a store on fakeredis."""
