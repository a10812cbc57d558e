package control

import "github.com/moorage-ml/moorage/internal/kubeconfig"

// kubeconfigSetting is the setting of drivers that holds the text of a kubeconfig.
const kubeconfigSetting = "kubeconfig"

// settle brings the settings of a compute that is at an address into the form that is kept, and refuses what could not be used.
func settle(settings map[string]any, address string) error {
	if err := settleInstanceTypes(settings); err != nil {
		return err
	}
	given, there := settings[kubeconfigSetting]
	if !there || given == nil || given == "" {
		return nil
	}
	text, ok := given.(string)
	if !ok {
		return invalid("InvalidKubeconfig", kubeconfigSetting, "the kubeconfig is not a text", "", "give the content of the file: --kubeconfig-file FILE")
	}
	m, err := minimal(text, address)
	if err != nil {
		return err
	}
	settings[kubeconfigSetting] = m.Text.Reveal()
	return nil
}

// oneForm is an address in the form that is kept, where it may be written in several.
func oneForm(address string) string {
	if context, ok := kubeconfig.ContextOf(address); ok {
		return kubeconfig.Address(context)
	}
	return address
}

// minimal cuts a kubeconfig down to the context that an address names, or its current one for no address. Programs and
// files are refused: whoever brings a kubeconfig along has no say in what runs or is read where the server is.
func minimal(text, address string) (kubeconfig.Minimal, error) {
	context, ok := kubeconfig.ContextOf(address)
	if address != "" && !ok {
		return kubeconfig.Minimal{}, invalid("InvalidAddress", "address", "a kubeconfig was given, and the address "+quote(address)+" names no context of it", "", "write it like "+kubeconfig.Scheme+"CONTEXT")
	}
	f, err := kubeconfig.Read([]byte(text))
	if err != nil {
		return kubeconfig.Minimal{}, err
	}
	return f.Minimise(context, nil)
}

// currentContext gives a request that names no context the current one of the kubeconfig that it brings, if it brings one.
func currentContext(req *AttachRequest, settings map[string]any) error {
	text, _ := settings[kubeconfigSetting].(string)
	if text == "" {
		return nil
	}
	m, err := minimal(text, "")
	if err == nil {
		req.Address = kubeconfig.Address(m.Context)
	}
	return err
}
