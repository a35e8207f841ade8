"""The one outbound connection: route, channel, stream, blobs, updates, enrolment. The only room of the node that speaks gRPC."""
