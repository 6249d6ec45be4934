"""A run that was analysed, sent to a service that keeps runs; one module a service, each the only one to know it."""
