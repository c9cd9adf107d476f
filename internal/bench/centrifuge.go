package main

import (
	"context"
	"encoding/json"
	"log"

	"github.com/centrifugal/centrifuge"
)

// centrifugeChannel is the one channel that all clients of [newCentrifuge] are in.
const centrifugeChannel = "room"

// newCentrifuge is the server of centrifuge's README, without its history: clients speak its JSON protocol, subscribe to
// a channel and publish into it. A client has a queue and a goroutine that writes what waits in it, several messages a
// frame; at 1 MiB it is ended as slow.
func newCentrifuge() hub {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}}, nil
	})
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnSubscribe(func(_ centrifuge.SubscribeEvent, reply centrifuge.SubscribeCallback) {
			reply(centrifuge.SubscribeReply{}, nil)
		})
		c.OnPublish(func(_ centrifuge.PublishEvent, reply centrifuge.PublishCallback) {
			reply(centrifuge.PublishReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	return hub{
		serve: handler(centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{})),
		send: func(text string) {
			data, err := json.Marshal(text)
			if err == nil {
				_, err = node.Publish(centrifugeChannel, data)
			}
			if err != nil {
				log.Fatal(err)
			}
		},
	}
}
