package iam

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// maxMessage is how long an authorization message may be: sealed, it still fits into encodedMessage of the STS API, which
// has 10,240 characters.
const maxMessage = 7500

// messageData is the associated data of authorization messages.
func messageData() []byte { return seal.Associate("keywright authorization message v1") }

// SealMessage seals the guard's explanation of a refusal, a JSON object that names the accounts whose principals may read it.
// It is what guard.Config.Seal wants. A text of more than 7,500 octets, or one that is not of that form, is refused.
func (d *Directory) SealMessage(text []byte) (string, error) {
	var m guard.AuthorizationMessage
	if len(text) > maxMessage || json.Unmarshal(text, &m) != nil || len(m.Accounts) == 0 || len(m.Message) == 0 {
		return "", errors.New("sealing an authorization message: it is too long or malformed")
	}
	blob, err := d.barrier.Encrypt(seal.Token, messageData(), secret.Copy(text))
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(blob), nil
}

func errMessage() error {
	return wire.Errorf(stsapi.CodeInvalidAuthorizationMessageException, "Message is not valid")
}

var actionDecodeMessage = guard.NewAction("sts:DecodeAuthorizationMessage")

// decodeAuthorizationMessage opens a message for a principal of an account that it names, but not for the one who was refused:
// explanations are for administrators. To all others it looks like one that is not genuine.
func (d *Directory) decodeAuthorizationMessage(_ context.Context, call *guard.Call, in *stsapi.DecodeAuthorizationMessageRequest) (*stsapi.DecodeAuthorizationMessageResponse, error) {
	if _, err := call.Authorize(guard.Resource{Action: actionDecodeMessage, ARN: "*", Owner: call.Caller.Account, Input: in}); err != nil {
		return nil, err
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(in.EncodedMessage.V)
	if err != nil {
		return nil, errMessage()
	}
	text, err := d.barrier.Decrypt(seal.Token, messageData(), blob)
	if err != nil {
		return nil, errMessage()
	}
	var m guard.AuthorizationMessage
	if json.Unmarshal(text.Expose(), &m) != nil || !slices.Contains(m.Accounts, call.Caller.Account) || m.Refused == call.Caller.Known() {
		return nil, errMessage()
	}
	return &stsapi.DecodeAuthorizationMessageResponse{DecodedMessage: wire.Some(string(m.Message))}, nil
}
