package catalog

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// The contracts by which machines are read, and the versions of them.
const (
	machineKind = "Microsoft.Compute/virtualMachines"
	nicKind     = "Microsoft.Network/networkInterfaces"
	publicKind  = "Microsoft.Network/publicIPAddresses"

	machineVersion = "2024-03-01"
	networkVersion = "2024-01-01"

	// maxInterfaces bounds the requests for one machine; Azure's largest have eight.
	maxInterfaces = 8
)

// A virtual machine, as far as it matters here (azure-services.md §7).
type machine struct {
	Location   string
	Properties struct {
		HardwareProfile struct{ VMSize string }
		StorageProfile  struct {
			ImageReference struct{ Publisher, Offer, Sku string }
			OSDisk         struct{ OSType string }
		}
		NetworkProfile struct{ NetworkInterfaces []reference }
		InstanceView   struct {
			OSName, OSVersion string
			Statuses          []struct{ Code string }
		}
	}
}

// reference is what one resource says of another.
type reference struct {
	ID         string
	Properties struct{ Primary bool }
}

type networkInterface struct {
	Properties struct{ IPConfigurations []ipConfiguration }
}

type ipConfiguration struct {
	Properties struct {
		Primary                         bool
		PrivateIPAddress                string
		PublicIPAddress                 *reference
		LoadBalancerInboundNatRules     []reference
		LoadBalancerBackendAddressPools []reference
	}
}

type publicAddress struct {
	Properties struct {
		IPAddress   string
		DNSSettings struct{ FQDN string }
	}
}

// machine follows a virtual machine to its network interfaces and their public addresses, the primary ones first. The
// address has no port: Azure does not know where sshd listens.
func (a *Azure) machine(ctx context.Context, id armID) (Found, error) {
	id = id.as(machineKind)
	var vm machine
	if err := a.ask(ctx, call{id: id, version: machineVersion, expand: "instanceView"}, &vm); err != nil {
		return Found{}, err
	}
	if err := vm.usable(id); err != nil {
		return Found{}, err
	}
	p := vm.Properties
	image := p.StorageProfile.ImageReference
	found := Found{Details: details(map[string]string{
		"os": strings.ToLower(p.StorageProfile.OSDisk.OSType), "os_name": p.InstanceView.OSName, "os_version": p.InstanceView.OSVersion,
		"image": strings.Trim(image.Publisher+":"+image.Offer+":"+image.Sku, ":"), "vm_size": p.HardwareProfile.VMSize, "location": vm.Location,
	})}
	w, err := a.ways(ctx, id, p.NetworkProfile.NetworkInterfaces)
	if err != nil {
		return Found{}, err
	}
	if w.private != "" {
		found.Details["private_ip"] = w.private
	}
	if w.public.IsValid() {
		found.Address, found.Public = "ssh://"+hostOf(w.public), true
		found.Details["public_ip"] = w.public.String()
		if w.fqdn != "" {
			found.Details["fqdn"] = w.fqdn
		}
		return found, nil
	}
	private, err := netip.ParseAddr(w.private)
	if err != nil {
		return Found{}, &workspace.Problem{
			Class: workspace.Conflict, Code: "NoAddress", Target: "resourceId", Message: fmt.Sprintf("virtual machine %s has no address in Azure", id.name()),
			Cause: "none of its network interfaces has one", Mend: "give it a network interface with an address, or " + tell(id),
		}
	}
	found.Address = "ssh://" + hostOf(private)
	found.Warnings = []workspace.Problem{w.warning(id)}
	return found, nil
}

// usable refuses what no job can run on.
func (vm machine) usable(id armID) error {
	if strings.EqualFold(vm.Properties.StorageProfile.OSDisk.OSType, "Windows") {
		return windows(id)
	}
	for _, s := range vm.Properties.InstanceView.Statuses {
		state, found := strings.CutPrefix(s.Code, "PowerState/")
		if found && slices.Contains([]string{"stopped", "stopping", "deallocated", "deallocating"}, state) {
			return stopped(id, "its power state is "+state, "az vm start --ids "+shellWord(id.String()))
		}
	}
	return nil
}

// ways are the ways to a machine that its network interfaces show.
type ways struct {
	public        netip.Addr
	fqdn          string
	private       string
	natRules      []string // of load balancers
	pools         bool     // a load balancer's, without a rule of its own
	unassigned    string   // a public address that has no number now
	moreThanAsked int      // network interfaces that were not looked at
}

// ways looks until it has found a public address.
func (a *Azure) ways(ctx context.Context, vm armID, nics []reference) (ways, error) {
	var w ways
	slices.SortStableFunc(nics, func(x, y reference) int { return first(x.Properties.Primary, y.Properties.Primary) })
	if len(nics) > maxInterfaces {
		w.moreThanAsked = len(nics) - maxInterfaces
		nics = nics[:maxInterfaces]
	}
	for _, ref := range nics {
		id, err := follow(vm, ref.ID, nicKind)
		if err != nil {
			return w, err
		}
		var nic networkInterface
		if err := a.ask(ctx, call{id: id, version: networkVersion}, &nic); err != nil {
			return w, err
		}
		configurations := nic.Properties.IPConfigurations
		slices.SortStableFunc(configurations, func(x, y ipConfiguration) int { return first(x.Properties.Primary, y.Properties.Primary) })
		for _, c := range configurations {
			if err := a.addConfiguration(ctx, vm, c, &w); err != nil || w.public.IsValid() {
				return w, err
			}
		}
	}
	return w, nil
}

func (a *Azure) addConfiguration(ctx context.Context, vm armID, c ipConfiguration, w *ways) error {
	p := c.Properties
	if w.private == "" {
		w.private, _, _ = strings.Cut(p.PrivateIPAddress, "/") // it may be a block
	}
	for _, rule := range p.LoadBalancerInboundNatRules {
		if id, ok := parseID(rule.ID); ok {
			w.natRules = append(w.natRules, fmt.Sprintf("%s of load balancer %s", id.name(), id.names[0]))
		}
	}
	w.pools = w.pools || len(p.LoadBalancerBackendAddressPools) > 0
	if p.PublicIPAddress == nil {
		return nil
	}
	id, err := follow(vm, p.PublicIPAddress.ID, publicKind)
	if err != nil {
		return err
	}
	var public publicAddress
	if err := a.ask(ctx, call{id: id, version: networkVersion}, &public); err != nil {
		return err
	}
	if w.public, err = netip.ParseAddr(public.Properties.IPAddress); err != nil {
		w.unassigned = id.name()
		return nil
	}
	w.fqdn = public.Properties.DNSSettings.FQDN
	return nil
}

// warning says why a private address stands for the machine.
func (w ways) warning(id armID) workspace.Problem {
	p := workspace.Problem{
		Class: workspace.Unavailable, Code: "PrivateAddress", Target: "resourceId", Warning: true,
		Message: fmt.Sprintf("virtual machine %s has no public address of its own; its private one, %s, is used", id.name(), w.private),
		Cause:   "no public IP address is on its network interfaces",
		Mend:    "see that this server reaches that network, give the machine a public IP address, or " + tell(id),
	}
	way := fmt.Sprintf("moorage resource add %s --address ssh://FRONTEND:PORT", shellWord(id.String()))
	switch {
	case len(w.natRules) > 0:
		p.Code, p.Cause = "BehindLoadBalancer", "it is behind a load balancer: "+strings.Join(w.natRules, ", ")
		p.Mend = "name the load balancer's public address and the port that its rule forwards to sshd: " + way
	case w.pools:
		p.Code, p.Cause = "BehindLoadBalancer", "it is behind a load balancer, which has no rule for this machine alone"
		p.Mend = "give it an inbound NAT rule to sshd and name that way: " + way
	case w.unassigned != "":
		p.Cause = fmt.Sprintf("its public address %s has no number now", w.unassigned)
	case w.moreThanAsked > 0:
		p.Cause = fmt.Sprintf("no public IP address is on its first %d network interfaces; %d were not asked for", maxInterfaces, w.moreThanAsked)
	}
	return p
}

// follow reads the id of another resource in an answer about one.
func follow(from armID, text, kind string) (armID, error) {
	id, ok := parseID(text)
	if !ok || !strings.EqualFold(id.kind(), kind) {
		return id, &workspace.Problem{
			Class: workspace.Unsupported, Code: "AzureAnswerUnreadable", Target: "resourceId", Message: fmt.Sprintf("Azure's answer about %s %s cannot be followed", noun(from), from.name()),
			Cause: fmt.Sprintf("it names %q where a resource of type %s belongs", clip(text), kind), Mend: tell(from),
		}
	}
	return id.as(kind), nil
}

// first orders what is primary before what is not.
func first(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// hostOf writes an address as a URL has it.
func hostOf(ip netip.Addr) string {
	if ip.Is6() && !ip.Is4In6() {
		return "[" + ip.WithZone("").String() + "]"
	}
	return ip.Unmap().String()
}

func windows(id armID) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "WindowsMachine", Target: "resourceId", Message: fmt.Sprintf("%s %s runs Windows", noun(id), id.name()),
		Cause: "jobs need a POSIX shell behind SSH", Mend: "attach a machine that runs Linux; Azure ML itself asks for Ubuntu",
	}
}

func stopped(id armID, cause, mend string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Conflict, Code: "ResourceNotRunning", Target: "resourceId", Message: fmt.Sprintf("%s %s is not running", noun(id), id.name()),
		Cause: cause, Mend: "start it and attach it again: " + mend,
	}
}
