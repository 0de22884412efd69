"""The gRPC services: validate, call, answer. Errors become statuses in `interceptor` alone."""
