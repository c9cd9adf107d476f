package main

import (
	"net"
	"time"
)

// A peer that vanished sends nothing, and TCP alone would not notice for hours. So it is asked when it has been silent for
// 10 s, and is lost when it has not answered three times: after 22 s.
//
// But TCP does not ask while data is on its way. Where somebody says something to a peer that has just vanished it is sent
// again and again, for a quarter of an hour; a bound for that is an option of its own, which only some systems have. As it
// may begin right before the peer would be lost otherwise, the two are together less than 45 s. It bounds as well how long a
// peer may be there and take nothing while all that is said fits into the system's buffers: that one is lost too, not slow.
const unanswered = 22 * time.Second

var listen = net.ListenConfig{
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 4 * time.Second, Count: 3},
	Control:         boundUnanswered,
}
