module example.com/chat

go 1.25.0

require (
	github.com/google/go-cmp v0.7.0
	golang.org/x/text v0.41.0
	nhooyr.io/websocket v1.8.17
)
