"""The one outbound connection to the coordinator: route, channel, stream, blobs, updates, enrolment. The only room that speaks gRPC."""
