package admin

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/servicequotas"
	"github.com/keywright/keywright/internal/trail"
)

// Config is what an Admin needs. All fields are required but Status and Fresh.
type Config struct {
	Guard     *guard.Guard
	Directory *iam.Directory
	KMS       *kms.Service
	Quotas    *servicequotas.Service
	Index     *trail.Index
	Now       func() time.Time
	// Status says how the server is; nil for an installation that no server runs on.
	Status func(context.Context) (Status, error)
	// Fresh is asked before a question about what is stored: whether what is remembered of it still holds. Nil means that it always does.
	Fresh func(context.Context) error
}

// Admin answers administrators. It is safe for concurrent use.
type Admin struct {
	guard     *guard.Guard
	directory *iam.Directory
	kms       *kms.Service
	quotas    *servicequotas.Service
	index     *trail.Index
	now       func() time.Time
	status    func(context.Context) (Status, error)
	fresh     func(context.Context) error
}

// New returns an Admin.
func New(c Config) *Admin {
	return &Admin{guard: c.Guard, directory: c.Directory, kms: c.KMS, quotas: c.Quotas, index: c.Index, now: c.Now, status: c.Status, fresh: c.Fresh}
}

// The methods of the door.
const (
	MethodCreateAccount   = "CreateAccount"
	MethodListAccounts    = "ListAccounts"
	MethodPutControl      = "PutControl"
	MethodDeleteControl   = "DeleteControl"
	MethodListControls    = "ListControls"
	MethodRegisterService = "RegisterService"
	MethodRemoveService   = "RemoveService"
	MethodListServices    = "ListServices"
	MethodWhy             = "Why"
	MethodWhoCan          = "WhoCan"
	MethodComparePolicy   = "ComparePolicy"
	MethodSearchEvents    = "SearchEvents"
	MethodFollowEvents    = "FollowEvents"
)

func (a *Admin) methods() map[string]method {
	return map[string]method{
		MethodCreateAccount:   serve(a.createAccount),
		MethodListAccounts:    serve(a.listAccounts),
		MethodPutControl:      serve(a.putControl),
		MethodDeleteControl:   serve(a.deleteControl),
		MethodListControls:    serve(a.listControls),
		MethodRegisterService: serve(a.registerService),
		MethodRemoveService:   serve(a.removeService),
		MethodListServices:    serve(a.listServices),
		MethodWhy:             serve(a.why),
		MethodWhoCan:          serve(a.whoCan),
		MethodComparePolicy:   serve(a.comparePolicy),
		MethodSearchEvents:    serve(a.searchEvents),
		MethodFollowEvents:    serve(a.followEvents),
		MethodStatus:          serve(a.statusOf),

		MethodListQuotas:          serve(a.listQuotas),
		MethodListQuotaRequests:   serve(a.listQuotaRequests),
		MethodApproveQuotaRequest: serve(a.approveQuotaRequest),
		MethodDenyQuotaRequest:    serve(a.denyQuotaRequest),
		MethodSetQuota:            serve(a.setQuota),
	}
}

// own are the methods that are about the server itself and its own log: they are answered whatever becomes of the store.
var own = map[string]bool{MethodSearchEvents: true, MethodFollowEvents: true, MethodStatus: true}

// Nothing is the question of methods that need none.
type Nothing struct{}

// Credential is a new access key. The secret is shown this once.
type Credential struct {
	AccessKeyID string `json:"accessKeyId"`
	Secret      string `json:"secretAccessKey"`
}

// String returns the access key id alone, as GoString and LogValue do: only the JSON of the door has the secret.
func (c Credential) String() string { return c.AccessKeyID }

// GoString implements fmt.GoStringer.
func (c Credential) GoString() string { return c.AccessKeyID }

// LogValue implements slog.LogValuer.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.AccessKeyID) }

// CreateAccount asks for an account with an access key of its root user. The answer is a Credential.
type CreateAccount struct {
	Account   arn.Account   `json:"account"`
	Name      string        `json:"name"`
	Partition arn.Partition `json:"partition,omitempty"` // empty: aws
}

func (a *Admin) createAccount(ctx context.Context, q *CreateAccount) (made Credential, err error) {
	if _, err := arn.ParseAccount(string(q.Account)); err != nil {
		return made, err
	}
	partition, err := arn.ParsePartition(cmp.Or(string(q.Partition), string(arn.Commercial)))
	if err != nil {
		return made, err
	}
	if err := a.directory.NoAccount(ctx, q.Account); err != nil {
		return made, err
	}
	show := func(f *audit.Fields) {
		f.String("accountId", string(q.Account))
		f.String("name", q.Name)
		f.String("partition", string(partition))
	}
	err = a.guard.Administer(MethodCreateAccount, q.Account, show, func() error {
		id, secret, err := a.directory.CreateAccountIn(ctx, partition, q.Account, q.Name)
		if err == nil {
			made = Credential{id, string(secret.Expose())}
		}
		return err
	})
	return made, err
}

// Account is an account of the installation.
type Account struct {
	Account   arn.Account `json:"account"`
	Name      string      `json:"name"`
	CreatedAt time.Time   `json:"createdAt"`
}

func (a *Admin) listAccounts(ctx context.Context, _ *Nothing) ([]Account, error) {
	all, err := a.directory.ListAccounts(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Account, len(all))
	for i, x := range all {
		list[i] = Account{x.ID, x.Name, x.CreatedAt}
	}
	return list, nil
}

// Control is a control policy of an account: it limits all of the account's principals, root users too (type service), or
// all who use the account's resources (type resource).
type Control struct {
	Account  arn.Account     `json:"account"`
	Type     iam.ControlType `json:"type"` // service or resource
	Name     string          `json:"name"`
	Document string          `json:"document,omitempty"`
}

func (q *Control) show(f *audit.Fields) {
	f.String("type", string(q.Type))
	f.String("name", q.Name)
	if q.Document != "" {
		f.String("document", q.Document)
	}
}

func (a *Admin) putControl(ctx context.Context, q *Control) (Nothing, error) {
	if err := a.directory.CheckControl(ctx, q.Account, q.Type, q.Name, q.Document); err != nil {
		return Nothing{}, err
	}
	return Nothing{}, a.guard.Administer(MethodPutControl, q.Account, q.show, func() error {
		return a.directory.PutControl(ctx, q.Account, q.Type, q.Name, q.Document)
	})
}

func (a *Admin) deleteControl(ctx context.Context, q *Control) (Nothing, error) {
	return Nothing{}, a.guard.Administer(MethodDeleteControl, q.Account, q.show, func() error {
		return a.directory.DeleteControl(ctx, q.Account, q.Type, q.Name)
	})
}

// ListControls asks for the control policies of an account. The answer is a list of Control.
type ListControls struct {
	Account arn.Account `json:"account"`
}

func (a *Admin) listControls(ctx context.Context, q *ListControls) ([]Control, error) {
	all, err := a.directory.Controls(ctx, q.Account)
	if err != nil {
		return nil, err
	}
	list := []Control{}
	for _, x := range all {
		list = append(list, Control{q.Account, x.Type, x.Name, x.Document})
	}
	return list, nil
}

// Service is a registered service.
type Service struct {
	Account   arn.Account   `json:"account"`   // that runs it
	Principal string        `json:"principal"` // objects.example.com
	For       []arn.Account `json:"for"`       // whose principals it may speak for
}

func (q *Service) show(f *audit.Fields) {
	f.String("principal", q.Principal)
	accounts := make([]string, len(q.For))
	for i, x := range q.For {
		accounts[i] = string(x)
	}
	f.Strings("for", accounts)
}

func (a *Admin) registerService(ctx context.Context, q *Service) (made Credential, err error) {
	if err := a.directory.CheckService(ctx, q.Account, q.Principal, q.For); err != nil {
		return made, err
	}
	err = a.guard.Administer(MethodRegisterService, q.Account, q.show, func() error {
		id, secret, err := a.directory.RegisterService(ctx, q.Account, q.Principal, q.For)
		if err == nil {
			made = Credential{id, string(secret.Expose())}
		}
		return err
	})
	return made, err
}

func (a *Admin) removeService(ctx context.Context, q *Service) (Nothing, error) {
	return Nothing{}, a.guard.Administer(MethodRemoveService, q.Account, q.show, func() error {
		return a.directory.RemoveService(ctx, q.Account, q.Principal)
	})
}

func (a *Admin) listServices(ctx context.Context, _ *Nothing) ([]Service, error) {
	accounts, err := a.directory.ListAccounts(ctx)
	if err != nil {
		return nil, err
	}
	list := []Service{}
	for _, account := range accounts {
		all, err := a.directory.Services(ctx, account.ID)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			list = append(list, Service{s.Account, s.Name, s.Accounts})
		}
	}
	return list, nil
}
