package webhook

import (
	"context"
	"log/slog"
	"time"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/server/retry"
)

// settler tells the store what became of deliveries, many in one command.
type settler struct {
	node   Node
	logger *slog.Logger
	queue  chan outcome
}

// settleLength bounds the outcomes that wait to be told; the sender then waits
// as well.
const settleLength = 1024

// settleTimeout bounds one attempt to tell; it is tried again until the term ends.
const settleTimeout = 10 * time.Second

func newSettler(node Node, logger *slog.Logger) *settler {
	return &settler{node: node, logger: logger, queue: make(chan outcome, settleLength)}
}

func (s *settler) put(ctx context.Context, o outcome) {
	select {
	case s.queue <- o:
	case <-ctx.Done():
	}
}

func (s *settler) run(ctx context.Context) {
	for {
		select {
		case o := <-s.queue:
			s.settle(ctx, s.gather(o))
		case <-ctx.Done():
			return
		}
	}
}

// gather makes one command of all that waits.
func (s *settler) gather(o outcome) *fsm.SettleDeliveries {
	op := &fsm.SettleDeliveries{}
	for {
		if o.retry != nil {
			op.Retry = append(op.Retry, *o.retry)
		} else {
			op.Done = append(op.Done, o.delivery.Seq)
		}
		select {
		case o = <-s.queue:
		default:
			return op
		}
	}
}

// settle repeats until the store has it or the term is over: a delivery that
// is not settled is sent again by the next leader.
func (s *settler) settle(ctx context.Context, op *fsm.SettleDeliveries) {
	// That the term is over is no news.
	_ = retry.Until(ctx, func() error {
		attempt, cancel := context.WithTimeout(ctx, settleTimeout)
		defer cancel()
		_, err := s.node.Propose(attempt, &fsm.Command{ID: commandid.New(), Op: op})
		if err != nil && ctx.Err() == nil {
			s.logger.Warn("webhook outcomes not stored", "error", err)
		}
		return err
	})
}
