// Package chat is a chat room to put into a server of one's own: who is in, what was said, in one order for all, over
// whatever connection brings the clients.
//
// A [Room] is one ordered [Log] of typed events, and everything else reads it. The roster is a fold of the log. A
// [Subscription] is a cursor into it. Resuming is a cursor that was kept. A slow subscriber is a cursor that the log has
// left behind. A second node is another reader of the same log.
//
//	room, err := chat.NewRoom(nil)
//	…
//	http.Handle("/ws", chat.NewWebSocketHandler(room, nil))
//
// A program that takes part itself calls [Room.Login], [Room.Send], [Room.Logout] and [Room.Subscribe]. One that brings
// connections of another kind implements [Transport], three methods, and calls [Room.Serve] for each client.
//
// # Order
//
//  1. One order. A room's events stand at positions that only grow. Every subscriber sees the same events in the same
//     order, each once, none left out; each names the one before it ([Meta].Prev), so that a reader can check. On a
//     [MemoryLog] positions count 1, 2, 3 …; a log that many rooms share numbers them together, so there they skip.
//  2. The roster is the fold. The roster of [Start] at position p is the fold of the events up to p, and the channel
//     goes on after p: nothing is lost or doubled between.
//
// # Identity
//
//  3. Identity is the room's. The author of [Said] is the session's user. Nothing that a client sends names an author.
//  4. One holder of a name. Names are compared under a [NamePolicy], [Nickname] unless the program says otherwise.
//
// # Lifetimes
//
//  5. Leaving happens exactly once: logout, lost connection, kick, slowness, shutdown, in any combination and at the
//     same time give one [Left], with the first reason.
//  6. No ghosts. A peer that says goodbye leaves now. One that vanishes without a word is away when its transport
//     notices, over WebSocket within the heartbeat's interval and timeout, 45 s unless set otherwise; and gone after its
//     linger ([LoginOptions], [ServeOptions]), which is 0 unless asked for. Others see nothing of an absence but a
//     [Resumed] at its end. Sessions of a process that died are ended by the others' [Node]. A kick closes the
//     connection; a logout leaves it open, as a spectator's where those are allowed.
//  11. Contexts bound calls, not what they begin. A cancelled call returns at once; what it had under way the room
//     finishes: a join that lands after its caller left is followed by a Left. [Room.Serve] alone takes its context as a
//     lifetime.
//  12. Ends are clean. [Room.Shutdown] delivers what was accepted, gives each session its Left, or leaves those that
//     linger to other nodes, and tells each client when to come back. [Room.Close] is now. After either no goroutine of
//     the room is left.
//
// # Loss
//
//  7. A receipt is true. A nil error from [Room.Send] means that the message is in the log at that position; a refusal
//     that it is not and never will be. Only a log out of reach, or the caller's own ended context, gives [ErrUnknown].
//  8. Retry is safe. The same session and ID give the same receipt and one event, for the last 256 IDs of a session,
//     also after it was resumed, and on another node.
//  9. Slow is told, never lied to. A subscriber that falls behind its bound is ended with a [SlowError] that carries its
//     position; it never skips silently, and never delays Send or anybody else. Behind is counted in bytes of records
//     from its cursor to the head; the end of the room's window ends it too.
//  10. Resuming is exact or refused. From a kept position comes exactly what follows, or [ErrTrimmed], [ErrEpoch] or
//     [ErrAhead]; on request a fresh start instead, marked as one. See [SubscribeOptions].
//
// # Strangers
//
//  13. Limits are on by default, each with its own sentinel and number:
//
//     limit                        default   option                        error              what happens
//     name, bytes                  64        RoomOptions.MaxName           ErrNameTooLong     refused
//     text, bytes                  4,096     RoomOptions.MaxText           ErrTextTooLong     refused
//     members                      10,000    RoomOptions.MaxMembers        ErrRoomFull        refused
//     subscribers                  20,000    RoomOptions.MaxSubscribers    ErrSubscribers     refused
//     connections of a source      100       RoomOptions.MaxPerSource      ErrSource          not let in (HTTP: 429)
//     connections not logged in    5,000     RoomOptions.MaxAnonymous      ErrAnonymous       not let in (HTTP: 429)
//     requests/s of a connection   20        ServeOptions.Rate             ErrRate            refused
//     time without a login         1 min     ServeOptions.LoginTimeout     ErrLoginTimeout    connection ended
//     unread bytes                 1 MiB     MaxUnread in Serve, Subscribe ErrSlow            connection ended
//     recent events, bytes         4 MiB     RoomOptions.Window            ErrSlow            connection ended
//     a log's records              16,384    MemoryLogOptions.MaxRecords   ErrTrimmed         older ones go
//     a log's bytes                8 MiB     MemoryLogOptions.MaxBytes     ErrTrimmed         older ones go
//
//  14. Bad input is the sender's problem only. A malformed, oversized or out-of-turn request gets a typed refusal or ends
//     that one connection; nobody else sees anything. [Code] gives each refusal its word on the wire.
//
// A connection that has not logged in hears the room only if the program says so ([ServeOptions].Spectators).
//
// # Concurrency
//
// All methods may be called from any goroutine, but Close and Shutdown not from within a Transport, a NamePolicy or a
// Format. Send and Login cost the same for any number of subscribers. A room has a goroutine only while something is due
// to somebody: a few then go from reader to reader and give each all that is due, without waiting; a client that would make
// them wait gets one of its own until it has caught up ([Transport], T8). The goroutine that calls Serve reads.
// No lock is held while a transport or a policy is called. A room calls its log without a lock of its own, and
// is called back with the log's: lock order is log before room.
//
// # Cost
//
// Who is in costs a room on a [MemoryLog] 1.2 KiB, and 16 to 24 bytes for each of the up to 256 message IDs that are
// remembered of them (BenchmarkMemory): 6 KiB at most. A reader costs its cursor, not a queue; a quiet WebSocket 12 KiB and
// two goroutines, of which one is its library's (PERFORMANCE.md, which also says what a delivery costs). Remembering IDs,
// lingering and tokens are not to be seen in the time of Send: the same median with and without, to 1,000 subscribers.
//
// # Not here
//
// Private messages, typing signals, editing and erasing, read receipts, file upload, push notifications, federation,
// end-to-end encryption, a consensus protocol of our own, per-connection queues for resuming, a plug-in registry, a
// configuration system. Messages are text: who shows them in a page must escape them.
//
// # Dependencies
//
// nhooyr.io/websocket carries the WebSocket adapter; github.com/google/go-cmp compares in tests; golang.org/x/text has
// PRECIS (RFC 8264, 8266), the standard's answer to which names are the same, and too much Unicode to write again.
package chat
