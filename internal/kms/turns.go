package kms

import (
	"errors"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/wire"
)

// Who waits for a turn can wait for seconds. Meanwhile somebody may take the right to use the key, disable it or delete its
// material, and is told that it is done: so whoever has waited looks at the key again.

// use is a key that a call is to use, what the guard permits to do with it, and what it was asked.
type use struct {
	key      *snapshot
	permit   guard.Permit
	alias    arn.AliasName
	question question
	untold   bool // the client did not name the key: whether there is one of another account stays untold
}

// await takes a turn for the use of a key, and notes whether the call waited for it.
func (r *request) await(k *snapshot, p guard.Permit) (end func(), err error) {
	end, waited, err := k.material.Turn(r.ctx, p)
	r.waited = r.waited || waited
	return end, err
}

// turn takes a turn for the use of the request's key, and settles.
func (r *request) turn() (end func(), err error) {
	if end, err = r.await(r.key, r.permit); err != nil {
		return nil, err
	}
	if err := r.settle(); err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// settle looks at the request's key again if the call has waited for a turn.
func (r *request) settle() error {
	if !r.waited {
		return nil
	}
	return r.lookAgain()
}

// lookAgain loads the request's key anew after something that took time, in which the right to use it may have been taken or
// its material may have gone.
func (r *request) lookAgain() error {
	u := use{key: r.key, alias: r.alias, question: r.ask(r.in)}
	err := r.review(&u, r.op.States)
	if err == nil {
		r.key, r.permit = u.key, u.permit
	}
	return err
}

// review loads a key anew, and asks again whether it may be used.
func (r *request) review(u *use, states stateRule) error {
	if err := r.call.Refresh(r.ctx); err != nil {
		return err
	}
	return r.decideAgain(u, states)
}

// decideAgain is review by what is known since the call was refreshed.
func (r *request) decideAgain(u *use, states stateRule) error {
	now, err := r.load(r.ctx, u.key.Name)
	if err != nil {
		return gone(u.key.Name, err)
	}
	if err := r.renew(); err != nil {
		return err
	}
	u.key = now
	if err := r.permitUse(u); err != nil {
		return err
	}
	return states.blocks(now.Key)
}

// permitUse asks the guard for a use of a key.
func (r *request) permitUse(u *use) (err error) {
	u.permit, err = r.authorize(u.key, u.alias, u.question)
	var denied *wire.Error
	if u.untold && errors.As(err, &denied) && denied.Code == wire.CodeAccessDenied && u.key.Account != r.call.Caller.Account {
		return errForeignCiphertext
	}
	return err
}
