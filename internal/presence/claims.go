package presence

import "slices"

// groupHandle is the number of a group among the present groups of a roster.
type groupHandle uint32

// group is a member that stands for many ids.
type group[M comparable] struct {
	member M
	size   int // number of ids that the group claims
}

// claims maps ids to the groups that claim them. The zero value has no groups.
//
// An id takes 20 to 39 bytes of byID, as the map is more or less full. The claims of more than one
// group on an id are short-lived and take more.
type claims[M comparable] struct {
	handles map[M]groupHandle
	groups  []group[M]    // by handle
	free    []groupHandle // of groups that were closed

	byID  map[uint64]groupHandle   // the group that claimed the id last; nil if empty
	below map[uint64][]groupHandle // the other groups that claim the id, the last one last; nil if empty
}

// open returns the handle of a new group.
func (c *claims[M]) open(member M) groupHandle {
	if c.handles == nil {
		c.handles = make(map[M]groupHandle)
	}
	h := groupHandle(len(c.groups))
	if n := len(c.free); n > 0 {
		h, c.free = c.free[n-1], c.free[:n-1]
	} else {
		c.groups = append(c.groups, group[M]{})
	}
	c.groups[h].member = member
	c.handles[member] = h
	return h
}

// close removes a group that claims no ids.
func (c *claims[M]) close(h groupHandle) {
	delete(c.handles, c.groups[h].member)
	c.groups[h] = group[M]{}
	c.free = append(c.free, h)
}

// find returns the member of the group that claimed id last.
func (c *claims[M]) find(id uint64) (member M, ok bool) {
	if h, ok := c.byID[id]; ok {
		return c.groups[h].member, true
	}
	return member, false
}

// has reports whether the group claims id.
func (c *claims[M]) has(id uint64, h groupHandle) bool {
	top, ok := c.byID[id]
	return ok && (top == h || slices.Contains(c.below[id], h))
}

// add makes the group the one that claimed id last, and reports whether no group claimed id.
func (c *claims[M]) add(id uint64, h groupHandle) (first bool) {
	top, claimed := c.byID[id]
	if claimed && top == h {
		return false
	}
	if c.byID == nil {
		c.byID = make(map[uint64]groupHandle)
	}
	c.byID[id] = h
	if !claimed {
		c.groups[h].size++
		return true
	}
	below := c.below[id]
	if i := slices.Index(below, h); i >= 0 {
		below = slices.Delete(below, i, i+1)
	} else {
		c.groups[h].size++
	}
	c.setBelow(id, append(below, top))
	return false
}

// remove removes the claim of the group to id if there is one, and reports whether it was the only
// claim to id.
func (c *claims[M]) remove(id uint64, h groupHandle) (last bool) {
	top, claimed := c.byID[id]
	if !claimed {
		return false
	}
	below := c.below[id]
	n := len(below)
	switch i := slices.Index(below, h); {
	case i >= 0:
		c.setBelow(id, slices.Delete(below, i, i+1))
	case top != h:
		return false
	case n > 0:
		c.byID[id] = below[n-1]
		c.setBelow(id, below[:n-1])
	default:
		last = true
		if delete(c.byID, id); len(c.byID) == 0 {
			c.byID = nil // a map never shrinks
		}
	}
	c.groups[h].size--
	return last
}

// setBelow sets the groups that claim id besides the one that claimed it last.
func (c *claims[M]) setBelow(id uint64, below []groupHandle) {
	switch {
	case len(below) > 0 && c.below == nil:
		c.below = map[uint64][]groupHandle{id: below}
	case len(below) > 0:
		c.below[id] = below
	default:
		if delete(c.below, id); len(c.below) == 0 {
			c.below = nil
		}
	}
}
