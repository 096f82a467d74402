package iam

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// maxMessage is how long the text of an authorization message may be: sealed, it still fits into encodedMessage of the STS
// API, which has 10,240 characters.
const maxMessage = 7000

// messageData is the associated data of authorization messages.
func messageData() []byte { return seal.Associate("keywright authorization message v1") }

// SealMessage seals the explanation of a refusal for whoever may decode it: a JSON object that names the refused principal as
// context.principal.arn, as AWS's messages do, whose account is the one that may. A longer text than 7,000 octets, or one
// that names no principal, is refused.
func (d *Directory) SealMessage(text []byte) (string, error) {
	if len(text) > maxMessage || principalOf(text).account == "" {
		return "", errMessage()
	}
	blob, err := d.barrier.Encrypt(seal.Token, messageData(), secret.Copy(text))
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(blob), nil
}

// principalOf returns whom a message is about.
func principalOf(text []byte) principalRef {
	var message struct {
		Context struct {
			Principal struct {
				ARN string `json:"arn"`
			} `json:"principal"`
		} `json:"context"`
	}
	if json.Unmarshal(text, &message) != nil {
		return principalRef{}
	}
	return parsePrincipal(message.Context.Principal.ARN)
}

func errMessage() error {
	return wire.Errorf(stsapi.CodeInvalidAuthorizationMessageException, "Message is not valid")
}

var actionDecodeMessage = guard.NewAction("sts:DecodeAuthorizationMessage")

// decodeAuthorizationMessage opens a message of the caller's own account. All others look like one that is not genuine.
func (d *Directory) decodeAuthorizationMessage(_ context.Context, call *guard.Call, in *stsapi.DecodeAuthorizationMessageRequest) (*stsapi.DecodeAuthorizationMessageResponse, error) {
	if _, err := call.Authorize(guard.Resource{Action: actionDecodeMessage, ARN: "*", Owner: call.Caller.Account, Input: in}); err != nil {
		return nil, err
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(in.EncodedMessage.V)
	if err != nil {
		return nil, errMessage()
	}
	text, err := d.barrier.Decrypt(seal.Token, messageData(), blob)
	if err != nil || principalOf(text.Expose()).account != call.Caller.Account {
		return nil, errMessage()
	}
	return &stsapi.DecodeAuthorizationMessageResponse{DecodedMessage: wire.Some(string(text.Expose()))}, nil
}
