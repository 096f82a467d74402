package policy

// MatchARN compares an ARN with a pattern as the condition operator ArnLike does: each of the six parts on its own, * and ?
// being wildcards within a part. What is no ARN only equals itself. The source constraint of a grant is such a pattern.
func MatchARN(pattern, arn string) bool {
	p, err := language{wildcards: true}.compileARN("", pattern, false)
	return err == nil && p.match(arn, nil)
}
