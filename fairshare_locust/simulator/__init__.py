"""The embedded server: continuous batching on a modelled GPU, spoken to as one speaks to vLLM or TGI."""
