package arn

import "fmt"

// What a list of Regions can say instead of a name.
const (
	PublishedRegions = "published" // those of AWS, in its partitions aws, aws-cn and aws-us-gov
	AnyRegion        = "any"       // every name of valid form
)

// published are the Regions of AWS ("Regions and Zones", AWS Regions and Availability Zones user guide).
var published = []Region{
	"af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2", "ap-southeast-1",
	"ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-central-1", "ca-west-1",
	"eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1",
	"me-central-1", "me-south-1", "me-west-1", "mx-central-1", "sa-east-1", "sa-west-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
	"cn-north-1", "cn-northwest-1", "us-gov-east-1", "us-gov-west-1",
}

// RegionSet returns whether a Region of valid form is in a list of names, or of the words above. An empty list is that of the
// published ones. With a Region comes the one of its partition that IAM is in: clients sign there for what is in no Region.
func RegionSet(list []string) (func(Region) bool, error) {
	if len(list) == 0 {
		list = []string{PublishedRegions}
	}
	all, set := false, map[Region]bool{}
	for _, name := range list {
		switch name {
		case AnyRegion:
			all = true
		case PublishedRegions:
			for _, r := range published {
				set[r] = true
			}
		default:
			r, err := ParseRegion(name)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", name, err)
			}
			set[r], set[r.Partition().GlobalRegion()] = true, true
		}
	}
	return func(r Region) bool { return all || set[r] }, nil
}
