package policy

// Bound returns the unique id of each ARN that Bind found one for. Kept beside the document's text, it binds it again.
func (d *Document) Bound() map[string]string {
	ids := map[string]string{}
	for i := range d.statements {
		for _, e := range d.statements[i].principals {
			if e.id != "" {
				ids[e.text] = e.id
			}
		}
	}
	return ids
}
