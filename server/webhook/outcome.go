package webhook

import (
	"context"
	"log/slog"
	"time"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/server/retry"
)

// outcomeWriter writes the outcomes of deliveries to the store, many in one command.
type outcomeWriter struct {
	node   Node
	logger *slog.Logger
	queue  chan outcome
}

// outcomeQueueLength bounds the outcomes that wait to be written. When it is
// reached, the sender waits.
const outcomeQueueLength = 1024

// storeTimeout bounds one attempt to write. It is repeated until the term ends.
const storeTimeout = 10 * time.Second

func newOutcomeWriter(node Node, logger *slog.Logger) *outcomeWriter {
	return &outcomeWriter{node: node, logger: logger, queue: make(chan outcome, outcomeQueueLength)}
}

func (w *outcomeWriter) put(ctx context.Context, o outcome) {
	select {
	case w.queue <- o:
	case <-ctx.Done():
	}
}

func (w *outcomeWriter) run(ctx context.Context) {
	for {
		select {
		case o := <-w.queue:
			w.store(ctx, w.gather(o))
		case <-ctx.Done():
			return
		}
	}
}

// gather makes one command of all outcomes that wait.
func (w *outcomeWriter) gather(o outcome) *fsm.SettleDeliveries {
	op := &fsm.SettleDeliveries{}
	for {
		if o.retry != nil {
			op.Retry = append(op.Retry, *o.retry)
		} else {
			op.Done = append(op.Done, o.delivery.Seq)
		}
		select {
		case o = <-w.queue:
		default:
			return op
		}
	}
}

// store tries until the outcomes are written or the term ends. The next leader
// sends a delivery again whose outcome is not written.
func (w *outcomeWriter) store(ctx context.Context, op *fsm.SettleDeliveries) {
	// The only error is the end of the term.
	_ = retry.Until(ctx, func() error {
		attempt, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		_, err := w.node.Propose(attempt, &fsm.Command{ID: commandid.New(), Op: op})
		if err != nil && ctx.Err() == nil {
			w.logger.Warn("webhook outcomes not stored", "error", err)
		}
		return err
	})
}
